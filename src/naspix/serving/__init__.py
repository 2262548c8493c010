"""The server for programs: photos in by HTTP, regions and explanations out as JSON.

``service.py`` has the routes, by FastAPI (the extra ``app``), ``questions.py`` what they take and
answer; ``batching.py`` lets requests that wait pass the network together.
"""
