"""One module per contestant: tables that look up a batch, and look up and update one."""
