"""Requests to other services: signed (Standard Webhooks), and never to an inner network that is not allowed."""
