"""The reference HTTP server: follows the champion, takes raw features, answers with probabilities."""
