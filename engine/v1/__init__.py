"""What is spoken on the wire? Generated from proto/engine/v1 by ``make proto``; committed, never edited."""
