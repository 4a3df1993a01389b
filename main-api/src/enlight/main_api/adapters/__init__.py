"""Other services' APIs over this one's: thin, and each says in its errors what it does not do."""
