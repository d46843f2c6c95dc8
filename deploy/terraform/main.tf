# Textmint on Dataflow, every night: a bucket, a template in it, a scheduler that launches it, and two service accounts
# that may do what they need to and no more.

locals {
  output        = "gs://${google_storage_bucket.data.name}/minted"
  template      = "gs://${google_storage_bucket.data.name}/${google_storage_bucket_object.template.name}"
  secret        = var.api_key_secret == "" ? [] : [var.api_key_secret]
  image_place   = regex("^([a-z0-9-]+)-docker\\.pkg\\.dev/([^/]+)/([^/]+)/", var.image)
  worker_member = "serviceAccount:${google_service_account.worker.email}"
}

resource "google_project_service" "needed" {
  for_each = toset(concat(
    [
      "aiplatform.googleapis.com",
      "artifactregistry.googleapis.com",
      "cloudscheduler.googleapis.com",
      "compute.googleapis.com",
      "dataflow.googleapis.com",
      "logging.googleapis.com",
      "monitoring.googleapis.com",
      "storage.googleapis.com",
    ],
    length(local.secret) > 0 ? ["secretmanager.googleapis.com"] : [],
  ))

  service            = each.value
  disable_on_destroy = false
}

# --- where everything lies

resource "google_storage_bucket" "data" {
  name                        = var.bucket
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  # A label that is run again replaces its files; what it replaced can be had back for a month.
  versioning {
    enabled = true
  }

  # Beam warns of soft deletion on buckets that hold the jobs' own files, for its costs; versions do here what it does.
  soft_delete_policy {
    retention_duration_seconds = 0
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = var.temp_days
      matches_prefix = ["tmp/", "staging/"]
    }
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = 30
      with_state                 = "ARCHIVED"
    }
  }
}

resource "google_storage_bucket_object" "template" {
  name         = "templates/textmint.json"
  bucket       = google_storage_bucket.data.name
  content_type = "application/json"

  content = jsonencode({
    image    = var.image
    sdkInfo  = { language = "PYTHON" }
    metadata = jsondecode(file("${path.module}/../metadata.json"))
    defaultEnvironment = {
      serviceAccountEmail = google_service_account.worker.email
      stagingLocation     = "gs://${google_storage_bucket.data.name}/staging"
      tempLocation        = "gs://${google_storage_bucket.data.name}/tmp"
      machineType         = var.machine_type
      maxWorkers          = var.max_workers
      sdkContainerImage   = var.image
    }
  })
}

# --- who launches and works: the launcher's and the workers' machines

resource "google_service_account" "worker" {
  account_id   = "textmint-worker"
  display_name = "Textmint: launcher and workers"
}

resource "google_project_iam_member" "worker" {
  for_each = toset([
    "roles/dataflow.worker",
    "roles/aiplatform.user",
  ])

  project = var.project
  role    = each.value
  member  = local.worker_member
}

# objectUser reads and writes objects; legacyBucketReader is for Beam, which looks the bucket up before it stages a job.
resource "google_storage_bucket_iam_member" "worker" {
  for_each = toset([
    "roles/storage.objectUser",
    "roles/storage.legacyBucketReader",
  ])

  bucket = google_storage_bucket.data.name
  role   = each.value
  member = local.worker_member
}

resource "google_artifact_registry_repository_iam_member" "worker" {
  project    = local.image_place[1]
  location   = local.image_place[0]
  repository = local.image_place[2]
  role       = "roles/artifactregistry.reader"
  member     = local.worker_member
}

resource "google_secret_manager_secret_iam_member" "worker" {
  count = length(local.secret)

  secret_id = regex("^(projects/[^/]+/secrets/[^/]+)/", local.secret[count.index])[0]
  role      = "roles/secretmanager.secretAccessor"
  member    = local.worker_member
}

# --- who says when

resource "google_service_account" "scheduler" {
  account_id   = "textmint-scheduler"
  display_name = "Textmint: launches the nightly job"
}

resource "google_project_iam_member" "scheduler" {
  project = var.project
  role    = "roles/dataflow.developer"
  member  = "serviceAccount:${google_service_account.scheduler.email}"
}

# To launch machines that run as the worker.
resource "google_service_account_iam_member" "scheduler" {
  service_account_id = google_service_account.worker.name
  role               = "roles/iam.serviceAccountUser"
  member             = "serviceAccount:${google_service_account.scheduler.email}"
}

# The service reads the template with the rights of whoever launches it.
resource "google_storage_bucket_iam_member" "scheduler" {
  bucket = google_storage_bucket.data.name
  role   = "roles/storage.objectViewer"
  member = "serviceAccount:${google_service_account.scheduler.email}"

  condition {
    title      = "the template"
    expression = "resource.name.startsWith(\"projects/_/buckets/${google_storage_bucket.data.name}/objects/templates/\")"
  }
}

resource "google_cloud_scheduler_job" "nightly" {
  name        = "textmint-nightly"
  description = "Launches a job that adds the day's data to ${local.output}"
  region      = var.region
  schedule    = var.schedule
  time_zone   = var.time_zone
  paused      = var.paused

  # A second launch of the same label is refused while the first works, and has nothing to do afterwards.
  retry_config {
    retry_count = 2
  }

  http_target {
    http_method = "POST"
    uri         = "https://dataflow.googleapis.com/v1b3/projects/${var.project}/locations/${var.region}/flexTemplates:launch"
    headers     = { "Content-Type" = "application/json" }

    body = base64encode(jsonencode({
      launchParameter = {
        jobName              = "textmint-nightly"
        containerSpecGcsPath = local.template
        parameters = merge(
          var.parameters,
          { output = local.output, refresh = var.refresh },
          var.api_key_secret == "" ? {} : { api_key_secret = var.api_key_secret },
        )
      }
    }))

    oauth_token {
      service_account_email = google_service_account.scheduler.email
      scope                 = "https://www.googleapis.com/auth/cloud-platform"
    }
  }

  depends_on = [google_project_service.needed]
}
