"""Find out which notebook, kernel, server and launcher this process belongs to."""
