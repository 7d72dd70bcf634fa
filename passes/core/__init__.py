"""What a pass is, how passes are named, combined, run, checked and reported."""
