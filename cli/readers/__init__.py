"""One module a file format; ``cli.readers.registry`` chooses the module by the file's name."""
