"""Draw people, heatmaps, charts and contact sheets; read and write videos."""
