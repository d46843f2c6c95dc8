output "dataset" {
  description = "The dataset folder."
  value       = local.output
}

output "template" {
  description = "The template, for gcloud dataflow flex-template run."
  value       = local.template
}

output "worker" {
  description = "The service account of launcher and workers."
  value       = google_service_account.worker.email
}

output "launch_now" {
  description = "Launches tonight's job at once."
  value       = "gcloud scheduler jobs run ${google_cloud_scheduler_job.nightly.name} --location=${var.region} --project=${var.project}"
}
