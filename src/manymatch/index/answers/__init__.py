"""From a question to an answer: what is asked, ranked, fused, grouped, explained and told."""
