// A worker whose run was interrupted or killed would otherwise live on while anything in it, such as a Temporal worker, keeps it alive.
process.once('disconnect', () => process.exit(1));
