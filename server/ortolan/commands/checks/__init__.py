"""What ``ortolan doctor`` looks at: a file for each part of a server's surroundings. Nothing heavy is imported here."""
