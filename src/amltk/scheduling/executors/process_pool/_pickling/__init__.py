"""How code and data of the program travel to workers: by name, or by value where no worker could import it."""
