"""Reports: results of runs beside the papers' numbers, as tables, pictures and pages."""
