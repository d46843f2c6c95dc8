# A dashboard of the jobs, and alerts. Every figure is a counter of Textmint (docs/performance.md lists them) or one that
# Dataflow itself has: https://cloud.google.com/monitoring/api/metrics_gcp_d_h#gcp-dataflow
#
# Dataflow samples each counter every minute into job/user_counter, a gauge with the labels metric_name and ptransform;
# of a distribution it makes four, with _MIN, _MAX, _MEAN and _COUNT behind the name, and no sum, so totals are counters.
# https://cloud.google.com/dataflow/docs/guides/using-cloud-monitoring#custom_metrics
# A series has no points after its job has ended: last_day reads what each job had come to.
#
# Queries are PromQL, in which all conditions can be written; one for the absence of a metric reaches 23.5 hours at most.
# https://cloud.google.com/monitoring/promql and https://cloud.google.com/monitoring/alerts/metric-absence

locals {
  jobs     = "monitored_resource=\"dataflow_job\",job_name=~\"textmint.*\""
  counter  = "dataflow_googleapis_com:job_user_counter{${local.jobs}"
  examples = "ptransform!~\"(TaskGenerate|Flatten|PlanLabels)/.*\""

  # What became of drafts: each was asked for in LLMCall, and is rejected there or in a later step.
  asked    = "sum by (job_id) (${local.counter},metric_name=\"in\",ptransform=~\"LLMCall/.*\"})"
  rejected = "sum by (job_id) (${local.counter},metric_name=~\"rejected[.].*\",metric_name!=\"rejected.over_target\",${local.examples}})"
  sent     = "sum(${local.counter},metric_name=\"requests.sent\"})"
  last_day = "sum(max_over_time(${local.counter},metric_name=\"cost.micro_usd\"}[24h])) / 1e6"

  # A worker writes a line for each publication; a counter of the job's last second might never be sampled.
  published = "logging_googleapis_com:user_${google_logging_metric.published.name}{monitored_resource=\"dataflow_step\"}"

  charts = {
    "Requests a minute" = {
      "sent"        = "60 * sum(deriv(${local.counter},metric_name=\"requests.sent\"}[5m]))"
      "sent again"  = "60 * sum(deriv(${local.counter},metric_name=\"requests.retries\"}[5m]))"
      "asked again" = "60 * sum(deriv(${local.counter},metric_name=\"requests.asked_again\"}[5m]))"
    }
    "Share of requests that the endpoint had no room for (429)" = {
      "share" = "sum(${local.counter},metric_name=\"requests.throttled\"}) / ${local.sent}"
    }
    "Rejects by reason" = {
      "reason" = "sum by (metric_name) (${local.counter},metric_name=~\"rejected[.].*\"})"
    }
    "Share of examples rejected" = {
      "share" = "${local.rejected} / ${local.asked}"
    }
    "Tokens" = {
      "prompts" = "sum(${local.counter},metric_name=\"gen_ai.client.inference.usage.input_tokens\"})"
      "replies" = "sum(${local.counter},metric_name=\"gen_ai.client.inference.usage.output_tokens\"})"
    }
    "Cost in US dollars, where the price is known" = {
      "of jobs that run"   = "sum(${local.counter},metric_name=\"cost.micro_usd\"}) / 1e6"
      "of the last day"    = local.last_day
      "last day, alert at" = "vector(${var.alert_spend_usd})"
    }
    "Lag: drafts that wait for their reply" = {
      "drafts" = "sum(${local.counter},metric_name=\"kept\",ptransform=~\"SampleAttributes/.*\"}) - sum(${local.counter},metric_name=~\"kept|rejected[.].*\",ptransform=~\"LLMCall/.*\"})"
    }
    "Lag: time to a reply in milliseconds" = {
      "mean"    = "avg(${local.counter},metric_name=\"gen_ai.client.inference.duration_MEAN\"})"
      "longest" = "max(${local.counter},metric_name=\"gen_ai.client.inference.duration_MAX\"})"
    }
    "Lag: seconds since jobs began, and seconds held back by the endpoint" = {
      "since it began" = "max by (job_id) (dataflow_googleapis_com:job_elapsed_time{${local.jobs}})"
      "held back"      = "sum(${local.counter},metric_name=\"cumulativeThrottlingSeconds\"})"
    }
    "Publications in 24 hours" = {
      "publications" = "sum(increase(${local.published}[24h])) or vector(0)"
    }
  }

  alerts = {
    "run failed" = {
      query = "max by (job_name) (max_over_time(dataflow_googleapis_com:job_is_failed{${local.jobs}}[1h])) > 0"
      text  = "A job failed. Its last error is in the console, under Dataflow, or for a launch in the launcher's console log. Run the same label again: what was paid for is kept."
    }
    "nothing published" = {
      query = "absent_over_time(${local.published}[${var.alert_silent_hours}h])"
      text  = "No job has published for ${var.alert_silent_hours} hours. See whether Cloud Scheduler launches ${google_cloud_scheduler_job.nightly.name}, and whether a job still runs."
    }
    "reject share" = {
      query = "${local.rejected} / ${local.asked} > ${var.alert_reject_share} and ${local.asked} >= 200"
      text  = "A job rejects more than ${var.alert_reject_share} of its examples. The dashboard tells by reason; the job may be ended, what was paid for is kept."
    }
    "spend" = {
      query = "${local.last_day} > ${var.alert_spend_usd}"
      text  = "Jobs have spent more than ${var.alert_spend_usd} US dollars in 24 hours, by the price that they know."
    }
  }
}

resource "google_logging_metric" "published" {
  name        = "textmint_published"
  description = "Publications of a refresh: the line that a job's last step writes."
  filter      = "resource.type=\"dataflow_step\" AND log_id(\"dataflow.googleapis.com/worker\") AND jsonPayload.message:\"textmint published \""

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
  }

  depends_on = [google_project_service.needed]
}

resource "google_monitoring_dashboard" "textmint" {
  dashboard_json = jsonencode({
    displayName = "Textmint"
    mosaicLayout = {
      columns = 48
      tiles = [for place, title in keys(local.charts) : {
        width  = 24
        height = 16
        xPos   = 24 * (place % 2)
        yPos   = 16 * floor(place / 2)
        widget = {
          title = title
          xyChart = {
            dataSets = [for name, query in local.charts[title] : {
              plotType        = "LINE"
              legendTemplate  = length(local.charts[title]) == 1 ? "" : name
              timeSeriesQuery = { prometheusQuery = query }
            }]
          }
        }
      }]
    }
  })

  depends_on = [google_project_service.needed]
}

resource "google_monitoring_alert_policy" "textmint" {
  for_each = local.alerts

  display_name          = "Textmint: ${each.key}"
  combiner              = "OR"
  enabled               = !(var.paused && each.key == "nothing published")
  notification_channels = var.notification_channels

  conditions {
    display_name = each.key

    condition_prometheus_query_language {
      query               = each.value.query
      duration            = "0s"
      evaluation_interval = "60s"
    }
  }

  documentation {
    content   = each.value.text
    mime_type = "text/markdown"
  }

  alert_strategy {
    auto_close = "86400s"
  }

  depends_on = [google_project_service.needed]
}
