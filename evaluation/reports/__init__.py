"""Files and pages made from results: evaluation, run report, comparison, model card."""
