"""An HTTP server that speaks OpenAI's API; it needs the extra ``localgen[serve]``.

``ServeConfig`` has its options. Nothing here imports starlette before a server is made.
"""
