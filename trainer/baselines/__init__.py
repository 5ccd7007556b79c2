"""What MMRL is compared with, trained and evaluated through the same trainers API."""
