"""Finding a model's files and telling what is wrong with them before anything heavy is loaded."""
