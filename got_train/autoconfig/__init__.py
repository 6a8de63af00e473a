"""From a folder of documents to a config: what it holds, what is held out, and a reason for every choice."""
