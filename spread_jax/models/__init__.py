"""Models that can be trained through a spread: VAEs, mixtures, any density; a file each."""
