"""Where batches wait until every handler has passed them; each journal implements `eventserver.interfaces.IJournal`."""
