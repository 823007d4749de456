"""Answer questions about what is stored, one module per question; knows neither DRF nor HTML."""
