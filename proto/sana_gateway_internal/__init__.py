"""Internal contract between gateways, the scheduler and the model actors."""
