"""What all rooms share: elements, identities, texts, labels, tasks, templates."""
