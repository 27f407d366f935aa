"""The lab over HTTP: routes, authentication, problems, streams and the dashboard's pages."""
