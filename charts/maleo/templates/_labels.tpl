{{- /* Recommended labels of an object. Arguments: name (of the component), root (the root context). */ -}}
{{- define "maleo.labels" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/part-of: maleo
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}

{{- /* JSON object: criticality of a mission -> name of the PriorityClass of its slots. */ -}}
{{- define "maleo.slotClasses" -}}
{{- with .Values.slots.priorityClasses -}}
{{- dict "Safety" .safety.name "Mission" .mission.name "BestEffort" .bestEffort.name | toJson -}}
{{- end -}}
{{- end -}}

{{- /* CEL expression: the request is made by the operator's ServiceAccount. */ -}}
{{- define "maleo.isOperator" -}}
request.userInfo.username == 'system:serviceaccount:{{ .Release.Namespace }}:maleo-operator'
{{- end -}}

{{- /* JSON list: the namespaces of watchNamespaces that exist, because Helm fails as a whole if the namespace of one Role
is missing. Without access to a cluster, as in `helm template`, all of them. */ -}}
{{- define "maleo.boundNamespaces" -}}
{{- $names := list -}}
{{- range .Values.watchNamespaces -}}
{{- if or (lookup "v1" "Namespace" "" .) (eq . $.Release.Namespace) (not (lookup "v1" "Namespace" "" "default")) -}}
{{- $names = append $names . -}}
{{- end -}}
{{- end -}}
{{- toJson $names -}}
{{- end -}}
