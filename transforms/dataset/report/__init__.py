"""The report, OUTPUT/report.html: see `page`."""
