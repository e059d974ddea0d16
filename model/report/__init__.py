"""What a build or a comparison tells afterwards: report.html for people, report.json for programs, rows for log.txt."""
