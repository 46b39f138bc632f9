"""What every process of ours needs: configuration, telemetry, plugins, storage."""
