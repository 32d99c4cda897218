"""What `resilient.integrations.aiohttp` is made of.

Of what aiohttp does not promise it knows this: a request's ``_timer``, which all requests of one
call share, and its ``_body``; the ``_timer`` of a stream; and the name of the function in which a
connector lets requests wait.
"""
