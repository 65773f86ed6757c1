"""Airflow: wiring only."""
