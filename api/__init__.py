"""The lab over HTTP: routes, authentication, problems, streams and the dashboard's pages."""

from partlab.installation import refuse_shadowed_packages

refuse_shadowed_packages()
