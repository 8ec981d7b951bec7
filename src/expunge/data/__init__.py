"""Data: read records, gather the sets of a request, turn records into token ids."""
