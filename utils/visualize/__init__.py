"""Pictures of people and maps, and videos."""
