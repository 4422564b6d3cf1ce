"""Work that outlives a request: the queue that carries jobs, and how they are run."""
