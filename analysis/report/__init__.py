"""What people read: figures, tables, texts and the HTML page."""
