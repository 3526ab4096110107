"""The commands of ``ortolan`` beside serving: a file each. Imported by name, so that no command waits for another's."""
