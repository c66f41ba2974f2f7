"""How newsquake is put together and run: settings, command line, one machine, containers, dashboards."""
