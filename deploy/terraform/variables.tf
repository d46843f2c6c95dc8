variable "project" {
  description = "Id of the Google Cloud project."
  type        = string
}

variable "region" {
  description = "Region of the bucket, the image, the workers and the scheduler."
  type        = string
  default     = "europe-west4"
}

variable "bucket" {
  description = "Name of the bucket to make: the dataset, the template and the jobs' own files lie in it."
  type        = string
}

variable "image" {
  description = "The image that was built, with its tag: REGION-docker.pkg.dev/PROJECT/textmint/textmint:TAG."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9-]+-docker\\.pkg\\.dev/[^/]+/[^/]+/[^/:]+:[^/:]+$", var.image))
    error_message = "Name an image of Artifact Registry with its tag, as deploy/README.md has it."
  }
}

variable "parameters" {
  description = "Options of generate, as strings, beyond output and refresh; the names are those of deploy/metadata.json."
  type        = map(string)
  default = {
    llm               = "gemini"
    model             = "gemini-2.5-flash"
    task_requests     = "200"
    examples_per_task = "3"
  }
}

variable "refresh" {
  description = "The label of each night's data; today is the day of the launch, in UTC."
  type        = string
  default     = "today"
}

variable "api_key_secret" {
  description = "Secret that holds the model's API key: projects/P/secrets/S/versions/latest. Empty: none, as with Vertex AI."
  type        = string
  default     = ""

  validation {
    condition     = var.api_key_secret == "" || can(regex("^projects/[^/]+/secrets/[^/]+/versions/[^/]+$", var.api_key_secret))
    error_message = "Write projects/PROJECT/secrets/SECRET/versions/VERSION, or leave it empty."
  }
}

variable "schedule" {
  description = "When a job is launched, in cron's form."
  type        = string
  default     = "15 2 * * *"
}

variable "time_zone" {
  description = "Of the schedule. The label today is a day in UTC all the same."
  type        = string
  default     = "Etc/UTC"
}

variable "paused" {
  description = "Whether the schedule is switched off."
  type        = bool
  default     = false
}

variable "machine_type" {
  description = "Of the workers."
  type        = string
  default     = "n2-standard-2"
}

variable "max_workers" {
  description = "How many workers a job has at most. Requests in flight are workers x processes x --max_concurrency: hold that against the model's quota."
  type        = number
  default     = 4
}

variable "temp_days" {
  description = "Days after which the jobs' own files are deleted."
  type        = number
  default     = 14
}

variable "notification_channels" {
  description = "Who is told of alerts: projects/PROJECT/notificationChannels/NUMBER. Empty: alerts are only shown in the console."
  type        = list(string)
  default     = []
}

variable "alert_silent_hours" {
  description = "Alert when nothing was published for so many hours."
  type        = number
  default     = 26
}

variable "alert_reject_share" {
  description = "Alert when a job rejects more than this share of its examples, of 200 or more."
  type        = number
  default     = 0.5
}

variable "alert_spend_usd" {
  description = "Alert when jobs have spent more than this in 24 hours, in US dollars, where the model's price is known."
  type        = number
  default     = 50
}
