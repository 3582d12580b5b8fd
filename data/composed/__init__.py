"""Pictures put together from people cut out of photographs."""
