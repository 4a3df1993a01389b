"""Pictures that are kept: made one after the other, shown, cut out, enlarged, removed."""
