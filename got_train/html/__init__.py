"""Pages and charts in HTML that reports share."""
