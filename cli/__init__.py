"""The command line of Landmark: ``engine index``, ``engine query`` and their siblings, and the readers of files."""
