"""Images of people and maps, and videos."""
