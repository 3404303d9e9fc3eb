"""The lab: a hospital in network namespaces, one fault at a time, judged by what people outside see."""
