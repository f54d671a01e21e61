"""One module a group of commands; each is imported when its command is looked up, and imports its work when it runs."""
