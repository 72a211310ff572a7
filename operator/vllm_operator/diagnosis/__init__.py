"""Why an engine does not serve: facts from the cluster, an ordered chain of policies, a cause and its sentence. Pure.

`facts` reads one pod, `policies` judges it, `engines` reports on all pods of a model, and `fleet` judges the model.
`events` reads kubelet's Events, which explain what a pod's status does not, and `lookups` says when to read them.
"""
