"""The endpoints: a request → what the model is asked → the answer."""
