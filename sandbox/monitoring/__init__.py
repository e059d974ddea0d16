"""Cloud Monitoring, simulated: time series, what is known of their metrics, and the REST calls that use them."""
