"""Jobs for engines that run on several machines, and what they need of the catalogue."""
