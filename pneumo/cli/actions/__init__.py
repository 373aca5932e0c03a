"""What the verbs of the command line do; their options are in the file of the same name one folder up."""
