"""Reports about accepted mails: vocabulary, parsers of each format, and what several mean together."""
