"""Cloud Storage: a real object store (fake-gcs-server) behind a proxy that knows who asks and what they may.

What the proxy answers is the JSON API for buckets and objects, with media, multipart and resumable uploads. Object
versioning is approximated: an overwritten generation is gone, whatever the bucket declares.
"""
