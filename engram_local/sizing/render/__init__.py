"""How a sizing report is shown: text, Markdown, HTML, JSON, CSV."""
